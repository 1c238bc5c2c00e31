"""The window: server-rendered pages for people. No money is computed here."""
