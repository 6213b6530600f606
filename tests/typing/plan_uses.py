"""Uses of plan and config that must pass the type checker; it is checked, never run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from ownward import config, plan

stated: plan.Plan = plan.loads("", file="plan.toml")
found: plan.Workload | None = stated.find_workload(model="gpt-5", headers={"x-app": "desk"}, key_id=None)
text: str = plan.dumps(stated, previous_text=None)
identity: str = stated.sha256
gap_texts: list[str] = [gap.message for gap in stated.gaps()]
price_usd: Decimal | None = next((t.price.input_usd_per_mtok for t in stated.tiers.values() if t.price), None)

settings: config.Settings = config.load(flags={"server.port": 0}, config_file=Path("ownward.toml"))
port: int = settings.server.port
secret: str = config.resolve_secret("OPENAI_API_KEY")
