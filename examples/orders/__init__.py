"""An order service: a web application, workers, a database of its own, a bank that is asked over HTTP, and mail."""
