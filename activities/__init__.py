"""The hands: load, ask the engine, store. One frozen command in, one small value out, safe to run twice."""
