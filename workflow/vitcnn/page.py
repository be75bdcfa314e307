"""The HTML pages of the results: one look, nothing loaded from elsewhere, narrow enough for the report."""

from html import escape

_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:1.2em;color:#222;max-width:70em}"
    "p,li{max-width:60em}pre{font-size:12px;line-height:1.35}"
    "table{border-collapse:collapse}th,td{padding:.3em .5em;border-bottom:1px solid #ccc;text-align:left}"
    "th{border-bottom:2px solid #444;vertical-align:bottom}"
    ".numbers th:nth-child(n+3),.numbers td:nth-child(n+3){text-align:right}"
)


def page(title: str, body: str) -> str:
    """Return a page with that title as its heading; `body` is HTML."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )
