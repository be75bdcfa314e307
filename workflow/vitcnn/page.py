"""The HTML pages of the results: one look, nothing loaded from elsewhere, narrow enough for the report."""

from html import escape

_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:1.2em;color:#222;max-width:70em}"
    "h1{font-size:22px}h2{font-size:17px}pre{font-size:12px;line-height:1.35;white-space:pre-wrap}"
    "table{border-collapse:collapse;font-size:13px}"
    "th,td{padding:.3em .4em;border-bottom:1px solid #ccc;text-align:left}thead{vertical-align:bottom}"
    "td{vertical-align:top}th[colspan]{text-align:right}.results th{white-space:normal!important}"
    "@media(max-width:1000px){.results{font-size:12px}.results td{white-space:normal!important}}"
)


def page(title: str, body: str) -> str:
    """Return a page with that title as its heading; `body` is HTML."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )
