"""From a transcript to an index on disk: parse, segment, window, encode, store.

Read in this order: `errors`, `transcript`, `sentences`, `chunks`, `encoder`, `lexical`,
`vectors`, `store`.
"""
