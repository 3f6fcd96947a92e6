"""The call from a compiled program on the host into this process, which fills its memory."""
