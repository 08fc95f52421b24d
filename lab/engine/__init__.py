"""A stand-in for Ollama: Ollama's HTTP API in front of llama.cpp, for the lab and for tests.

It gives real answers of real models with true timings, and is named a stand-in wherever it speaks of itself.
The package uses relative imports and the standard library (llama_server.py alone needs xllamacpp), so that its folder
can be copied into an image and run there: python3 -m engine
"""

VERSION = "0.32.15-llamacpp-stand-in"
