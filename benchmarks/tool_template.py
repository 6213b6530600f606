"""Weights whose chat template knows tools: those of the embedded model, whose own knows none.

A model as small makes calls where it has seen some, so that the template shows it three before each conversation.
"""

import subprocess
import sys
from pathlib import Path

TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\n# Tools\n\nYou may call one or more functions.\n\n<tools>' }}
{%- for tool in tools %}{{- '\n' + tool | tojson }}{%- endfor %}
{{- '\n</tools><|im_end|>\n' }}
{%- for _ in range(3) %}
{{- '<|im_start|>user\nPlease.<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{"name": "' }}
{{- tools[0].function.name + '", "arguments": {"query": "please"}}\n</tool_call><|im_end|>\n' }}
{{- '<|im_start|>user\n<tool_response>\nfound\n</tool_response><|im_end|>\n' }}
{{- '<|im_start|>assistant\nIt is found.<|im_end|>\n' }}
{%- endfor %}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\n' }}
{%- if message.role == 'tool' %}
{{- '<tool_response>\n' + message.content + '\n</tool_response>' }}
{%- elif message.content %}
{{- message.content }}
{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""


def with_tools(model_path: Path, path: Path) -> Path:
    """Return a copy of a model's weights with a chat template that tells it of tools, their calls and results."""
    return with_template(model_path, path, TEMPLATE)


def with_template(model_path: Path, path: Path, template: str) -> Path:
    """Return a copy of a model's weights with another chat template."""
    file = path.with_suffix(".jinja")
    file.write_text(template, encoding="utf-8")
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force"]
    subprocess.run([*command, "--chat-template-file", file, model_path, path], check=True, capture_output=True)
    return path
