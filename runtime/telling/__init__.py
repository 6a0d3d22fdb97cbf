"""Telling others what became of scenes. One file per kind of channel; SENDERS is their registry."""
