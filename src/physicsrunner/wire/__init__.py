"""
Everything that crosses a process boundary: messages, frames, documents, tokens, names.

Pure: bytes and text in, values out. Nothing here opens a file, a socket or a clock.
"""
