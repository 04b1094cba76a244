"""What the crash tests are made of: processes that kill themselves at an exact point, and a judge of what they leave."""
