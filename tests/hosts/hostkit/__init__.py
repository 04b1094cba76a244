"""What the tests of several hosts are made of: a bank, sagas that move money there, processes that run them, and an audit."""
