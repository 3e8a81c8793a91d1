"""The chat template of an exported folder."""

from __future__ import annotations

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


def exported_template(template: str) -> str:
    """Return a template that writes what `template` does, and takes instructions besides.

    Args:
        template: a template of `embedder.json`, for one message of images and then one text.
    """
    return template if template.startswith(_ONE_MESSAGE) else _ONE_MESSAGE + template
