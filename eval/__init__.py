"""Grounding, measured: cases, metrics, runs, reports, comparisons.

Read in this order: `spans`, `cases`, `metrics`, `exactness`, `runner`, `measures`, `report`,
`page`; then `compare`, `thresholds`, `readme`, and for the public sets `public`, `suites`, `cache`.
"""
