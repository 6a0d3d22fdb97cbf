"""What `sarwater watch` is made of: a supervisor (inbox, ledger, commit) and the one worker that decodes and infers."""
