"""The container runtimes that run spaces; each is the only code that knows its runtime."""
