"""The look of the page of a fit: system fonts, two colour schemes, figures in columns."""

from __future__ import annotations

STYLE = """
:root{--ink:#1b1f24;--soft:#57606a;--paper:#fff;--panel:#f4f6f8;--rule:#d0d7de;
--weights:#0b6bcb;--cache:#a23aa0;--other:#b26a00;--free:#d8dee4;--band:#0b6bcb33}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#a3adb8;--paper:#0f1419;--panel:#1a2129;--rule:#38424d;
--weights:#58a6ff;--cache:#d783d5;--other:#e3a03c;--free:#2d3640;--band:#58a6ff3d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.25rem;margin:2rem 0 .5rem;border-top:1px solid var(--rule);padding-top:1.25rem}
h3{font-size:1rem;margin:1.25rem 0 .4rem}
.asked{color:var(--soft);margin:.25rem 0 1rem}
.verdict{font-size:1.1rem;background:var(--panel);border-left:4px solid var(--weights);padding:.75rem 1rem}
.bar{display:flex;height:1.6rem;border:1px solid var(--rule);border-radius:4px;overflow:hidden}
.bar span{display:block}
.weights{background:var(--weights)}.cache{background:var(--cache)}.other{background:var(--other)}
.free{background:var(--free)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;margin:.5rem 0}
.key{display:inline-block;width:.9em;height:.9em;margin-right:.4em;border:1px solid var(--rule);vertical-align:-.1em}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:.5rem 1.5rem;margin:0}
dt{color:var(--soft);font-size:.9rem}dd{margin:0;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem;margin-top:1rem}
figure{margin:0;background:var(--panel);padding:.75rem;border-radius:6px}
figcaption{font-size:.9rem;color:var(--soft);text-align:center}
svg{width:100%;height:auto;display:block}
.line{fill:none;stroke:var(--weights);stroke-width:2.5}.band{fill:var(--band)}.dot{fill:var(--weights)}
.whisker{stroke:var(--weights);stroke-width:1}.grid{stroke:var(--rule);stroke-width:1}
.tick{fill:var(--soft);font-size:12px;font-family:system-ui,sans-serif}
.scroll{overflow-x:auto;margin:.75rem 0}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;color:var(--soft);padding-bottom:.25rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{border-bottom:2px solid var(--rule)}thead .n{white-space:normal}tbody th{font-weight:600}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
pre{background:var(--panel);padding:.75rem 1rem;border-radius:6px;overflow-x:auto;margin:0}
summary{cursor:pointer;margin-top:.75rem}
:focus-visible{outline:3px solid var(--weights);outline-offset:2px}
@media print{html{font-size:11px}body{font-size:1rem}main{max-width:none;padding:0}
.verdict,figure,pre{background:none;border:1px solid var(--rule)}
.scroll{overflow:visible}th,td{padding:.2rem .35rem}pre{white-space:pre-wrap}
.charts{grid-template-columns:1fr 1fr}tr,figure,pre{break-inside:avoid}h2,h3{break-after:avoid}}
"""
