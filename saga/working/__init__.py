"""What a worker is made of: what it has claimed, the threads and tasks that run that, and how it is told to stop."""
