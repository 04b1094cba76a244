"""What saga says to other libraries: one small module each, which imports its library. Nothing inside imports them."""
