"""Local servers that behave like the neighbours, for demo and tests. The product never imports this."""
