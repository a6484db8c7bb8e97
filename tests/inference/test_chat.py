"""Conversations to prompts: as transformers renders them, and safe from tenants' templates."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from transformers import AutoTokenizer

from inference_service.chat import ChatRenderer, conversation_of
from inference_service.isolated_renderer import IsolatedRenderer
from inference_service.model_files import read_model_files
from inference_service.template_rendering import TemplateRefusedError, render_template
from inference_service.tools.offered import offered_tools
from lorikeet.rpc.errors import FailedPreconditionError, InvalidArgumentError
from protos.inference_pb2 import ChatMessage, ChatRequest, Tool, ToolCall
from tests.inference.tokenizer_files import CHAT_TEMPLATE, write_model

CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\\n'}}{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}{% else %}"
    "{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
NAMESPACES = (
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'system' %}{% continue %}"
    "{% endif %}{% set ns.n = ns.n + 1 %}{{ ns.n }}:{{ m | tojson }}\n{% endfor %}"
    "{{ dict(a=1) | tojson }}{{ strftime_now('%Y') | length }}{% if tools %}tools{% endif %}"
)
# The shape of Qwen 2.5's and Hermes' templates.
HERMES = """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n\\n<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "number"}, "b": {"type": "integer", "minimum": 5}},
    "required": ["a", "b"],
}


def struct_of(value: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(value)
    return struct


MESSAGES = [
    ChatMessage(role="user", content=" What is <b>2+2</b>? "),
    ChatMessage(
        role="assistant",
        content="Let me see.",
        tool_calls=[ToolCall(id="1", name="add", arguments='{"a": 2, "é": [1]}')],
    ),
    ChatMessage(role="user", content="日本"),
]
RESULTS = [
    ChatMessage(role="tool", content="4", tool_call_id="1"),
    ChatMessage(role="tool", content="five", tool_call_id="2"),
]
WITH_RESULTS = [*MESSAGES[:2], *RESULTS, MESSAGES[2]]


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        *((template, MESSAGES) for template in (CHAT_TEMPLATE, CHATML, LLAMA_2, NAMESPACES)),
        *((template, WITH_RESULTS) for template in (CHAT_TEMPLATE, HERMES, NAMESPACES)),
    ],
)
def test_it_equals_transformers(tmp_path: Path, template: str, messages: list[ChatMessage]) -> None:
    model = write_model(tmp_path, chat_template=template)
    tokenizer = read_model_files(model).tokenizer
    conversation = conversation_of(messages)
    theirs = AutoTokenizer.from_pretrained(model).apply_chat_template(
        conversation, tokenize=False, add_generation_prompt=True
    )
    assert render_template(template, conversation, tokenizer.special_tokens) == theirs


TOOLS = [
    Tool(name="add", description="Adds <numbers>.", parameters=struct_of(SCHEMA)),
    Tool(name="now"),
]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, HERMES, NAMESPACES])
def test_tools_equal_transformers(tmp_path: Path, template: str) -> None:
    model = write_model(tmp_path, chat_template=template)
    tokenizer = read_model_files(model).tokenizer
    conversation = conversation_of(WITH_RESULTS)
    offered = offered_tools(ChatRequest(tools=TOOLS), "hermes")
    assert offered is not None
    function = {"name": "add", "description": "Adds <numbers>.", "parameters": SCHEMA}
    no_arguments = {"type": "object", "properties": {}}
    tools = [
        {"type": "function", "function": function},
        {
            "type": "function",
            "function": {"name": "now", "description": "", "parameters": no_arguments},
        },
    ]
    theirs = AutoTokenizer.from_pretrained(model).apply_chat_template(
        conversation, tools=tools, tokenize=False, add_generation_prompt=True
    )
    ours = render_template(template, conversation, tokenizer.special_tokens, offered.definitions)
    assert ours == theirs
    assert ours != render_template(template, conversation, tokenizer.special_tokens)


@pytest.mark.parametrize("in_files", [True, False])
async def test_a_checkpoints_template_for_tools_is_used_with_them(
    tmp_path: Path, in_files: bool
) -> None:
    templates = {"default": CHATML, "tool_use": HERMES}
    listed = [{"name": name, "template": template} for name, template in templates.items()]
    model = write_model(tmp_path, chat_template=None if in_files else listed)
    if in_files:
        (model / "chat_template.jinja").write_text(CHATML)
        (model / "additional_chat_templates").mkdir()
        (model / "additional_chat_templates" / "tool_use.jinja").write_text(HERMES)
    renderer = ChatRenderer(read_model_files(model))
    offered = offered_tools(ChatRequest(tools=TOOLS), "hermes")
    assert offered is not None
    tokenizer, turns = AutoTokenizer.from_pretrained(model), conversation_of(MESSAGES)
    for tools in (offered, None):
        theirs = tokenizer.apply_chat_template(
            turns,
            tools=[*tools.definitions] if tools else None,
            tokenize=False,
            add_generation_prompt=True,
        )
        assert await renderer.render(MESSAGES, "", tools) == theirs
        assert ("<tools>" in theirs) == bool(tools)


@pytest.mark.parametrize("template", ["", "{{ messages[0].content }} tools"])
async def test_a_template_without_a_place_for_tools_refuses_them(
    tmp_path: Path, template: str
) -> None:
    renderer = ChatRenderer(read_model_files(write_model(tmp_path, chat_template=CHATML)))
    offered = offered_tools(ChatRequest(tools=TOOLS), "hermes")
    with pytest.raises(InvalidArgumentError) as refused:
        await renderer.render(MESSAGES, template, offered)
    await renderer.close()
    assert refused.value.reason == "CHAT_TEMPLATE_REFUSED"
    assert [violation.field for violation in refused.value.violations] == ["tools"]


@pytest.fixture
async def renderer(tmp_path: Path) -> AsyncIterator[ChatRenderer]:
    renderer = ChatRenderer(read_model_files(write_model(tmp_path)))
    yield renderer
    await renderer.close()


async def test_the_adapters_template_goes_before_the_base_models(renderer: ChatRenderer) -> None:
    base = await renderer.render(MESSAGES, "")
    own = await renderer.render(MESSAGES, CHATML)
    assert base.startswith("<s><|user|>user\n")
    assert own.startswith("<|im_start|>user\n What is <b>2+2</b>? <|im_end|>\n")


async def test_a_template_file_goes_before_the_config(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    (model / "chat_template.jinja").write_text("from the file")
    assert read_model_files(model).chat_template == "from the file"


async def test_without_any_template_it_says_so(tmp_path: Path) -> None:
    renderer = ChatRenderer(read_model_files(write_model(tmp_path, chat_template=None)))
    with pytest.raises(FailedPreconditionError, match="chat template"):
        await renderer.render(MESSAGES, "")


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([ChatMessage(role="wizard", content="x")], "messages[0].role"),
        ([ChatMessage(role="user", tool_calls=[ToolCall()])], "messages[0].tool_calls"),
        (
            [ChatMessage(role="assistant", tool_calls=[ToolCall(arguments="{")])],
            "messages[0].tool_calls[0].arguments",
        ),
        (
            [ChatMessage(role="assistant", tool_calls=[ToolCall(arguments="[1]")])],
            "messages[0].tool_calls[0].arguments",
        ),
        ([ChatMessage(role="assistant", content="me first")], "messages"),
    ],
)
async def test_wrong_messages_are_refused_by_field(
    renderer: ChatRenderer, messages: list[ChatMessage], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await renderer.render(messages, "")
    assert [violation.field for violation in refused.value.violations] == [field]


HOSTILE: dict[str, Any] = {
    "loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{{ 'x' * 10**10 }}",
    "class": "{{ messages.__class__.__mro__ }}{{ ''.__class__.__base__.__subclasses__() }}",
    "syntax": "{% for %}",
    "output": "{{ 'x' * (5 * 1024 * 1024) }}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_template_is_refused_in_time(renderer: ChatRenderer, template: str) -> None:
    started = time.monotonic()
    if template == HOSTILE["class"]:
        with pytest.raises(InvalidArgumentError, match="unsafe"):
            await renderer.render(MESSAGES, template)
    else:
        with pytest.raises(InvalidArgumentError):
            await renderer.render(MESSAGES, template)
    assert time.monotonic() - started < 5
    assert "What is" in await renderer.render(MESSAGES, CHATML)


def environment_of(process_id: int) -> bytes:
    return Path(f"/proc/{process_id}/environ").read_bytes()


async def test_the_worker_sees_neither_environment_nor_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LORIKEET_SECRET", "secret")
    isolated = IsolatedRenderer()
    await isolated.render("warm", [], {})
    assert isolated.worker_pid is not None
    environment = environment_of(isolated.worker_pid)
    await isolated.close()
    assert b"secret" not in environment


def test_an_unknown_variable_renders_as_nothing() -> None:
    assert render_template("[{{ nothing_here }}]", [], {}) == "[]"


def test_arithmetic_in_a_template_is_a_refusal_not_a_crash() -> None:
    with pytest.raises(TemplateRefusedError):
        render_template("{{ 1 // 0 }}", [], {})
