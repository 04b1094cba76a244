"""What the shop calls, as far as it matters here: it fails as such things fail, and remembers what it did."""
