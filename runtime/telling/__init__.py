"""Telling others what became of scenes: channels, the message, one attempt to deliver it, and when to try again."""
