"""The demo: a source of events, a stack, live figures of it, and the check at the end."""
