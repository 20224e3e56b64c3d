"""From a question to quotes: contextualise, retrieve, read, compose, or abstain.

Open `pipeline` first; it reads top to bottom and names the modules it calls.
"""
