"""The chat template of an exported folder."""

from __future__ import annotations

import json

from puma_cli.models.embedder_settings import SYSTEM, EmbedderSettings

# Other loaders hand an instruction over as a system message. It becomes the line before the text,
# and images come first, whatever their order: what the model has learned.
_ONE_MESSAGE = (
    "{%- set gathered = namespace(images=[], lines=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}"
    "{%- if message.content -%}"
    "{%- set gathered.lines = gathered.lines + [message.content] -%}"
    "{%- endif -%}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}"
    "{%- set gathered.images = gathered.images + [part] -%}"
    "{%- elif part.text -%}"
    "{%- set gathered.lines = gathered.lines + [part.text] -%}"
    "{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set content = gathered.images -%}"
    "{%- if gathered.lines -%}"
    "{%- set content = content + [{'type': 'text', 'text': gathered.lines | join('\\n')}] -%}"
    "{%- endif -%}"
    "{%- set messages = [{'role': 'user', 'content': content}] -%}"
)


# Where instructions have a turn of their own they keep it, and one without has the model's default.
_TURNS = (
    "{%- set gathered = namespace(images=[], lines=[], above=DEFAULT) -%}"
    "{%- set given = namespace(above=[]) -%}"
    "{%- for message in messages -%}"
    "{%- set parts = [{'type': 'text', 'text': message.content}] "
    "if message.content is string else message.content -%}"
    "{%- for part in parts -%}"
    "{%- if message.role == 'system' -%}"
    "{%- if part.text -%}{%- set given.above = given.above + [part.text] -%}{%- endif -%}"
    "{%- elif part.type == 'image' -%}"
    "{%- set gathered.images = gathered.images + [part] -%}"
    "{%- elif part.text -%}"
    "{%- set gathered.lines = gathered.lines + [part.text] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endfor -%}"
    "{%- set above = given.above or gathered.above -%}"
    "{%- set content = gathered.images -%}"
    "{%- if gathered.lines -%}"
    "{%- set content = content + [{'type': 'text', 'text': gathered.lines | join('\\n')}] -%}"
    "{%- endif -%}"
    "{%- set messages = [{'role': 'user', 'content': content}] -%}"
    "{%- if above -%}"
    "{%- set said = [{'type': 'text', 'text': above | join('\\n')}] -%}"
    "{%- set messages = [{'role': 'system', 'content': said}] + messages -%}"
    "{%- endif -%}"
)


def exported_template(settings: EmbedderSettings) -> str:
    """Return a template that writes what the model's own does, and takes instructions besides.

    The model's own is for one message of images and then one text, and one of the system's before
    it if instructions go there.
    """
    template, usual = settings.template, settings.default_instruction
    before = _ONE_MESSAGE
    if settings.instruction == SYSTEM:
        before = _TURNS.replace("DEFAULT", json.dumps([usual] if usual else []))
    return template if template.startswith(before) else before + template
