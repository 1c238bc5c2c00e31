"""The front door: FastAPI over models and workflows. Nothing is rendered and no money is computed here."""
