"""The part of the table of settings that is about the models' calls.

What is drawn, what the language model is asked, and on which hardware.
"""

from __future__ import annotations

from functools import partial

from socratic_agents.config.field import Decides, Field, Group, Part

__all__ = ("CALL_FIELDS",)

IMAGE, ROUNDING, CAPTION, SCORE, ANSWER, COST, PLACE, SEARCH, PRIVACY = Decides
GENERATOR, CAPTIONER, SCORER, LLM = Part
IMAGE_MODELS = GENERATOR | CAPTIONER | SCORER

_llm = partial(Field, group=Group.LLM, of=LLM)
_hardware = partial(Field, group=Group.HARDWARE)
_drawn = partial(
    Field,
    group=Group.IMAGE,
    decides=IMAGE | COST,
    of=GENERATOR,
    unset="the recipe of its family, or else the pipeline's own",
    metavar="N",
    argument=True,
    in_every_key=True,
)
_brought = partial(
    Field, group=Group.IMAGE, decides=IMAGE | COST, of=GENERATOR, at_opening=True
)
_server = partial(Field, group=Group.IMAGE, decides=PLACE, of=GENERATOR, server=True)
_seen = partial(Field, group=Group.CAPTIONER, decides=CAPTION | COST, of=CAPTIONER)
_speed = partial(_hardware, of=GENERATOR, at_opening=True)

CALL_FIELDS: tuple[Field, ...] = (
    Field(
        "seed",
        "Where all noise comes from: the same seed, the same images.",
        group=Group.IMAGE,
        decides=SEARCH,
        default=0,
        metavar="N",
    ),
    _drawn(
        "image_model",
        "Model that an images server is asked for.",
        decides=IMAGE,
        metavar="NAME",
        unset="the server's own",
        argument=False,
        server=True,
    ),
    _server(
        "image_options",
        "Parameters for an images server, or none to leave one out: size=auto,"
        "quality=high,seed=none.",
        decides=IMAGE,
        metavar="OPTIONS",
        unset="what the server takes of n, size, seed and response_format",
    ),
    _server(
        "image_timeout",
        "What one request to an images server may take, from connecting to the last "
        "byte.",
        default=300.0,
        metavar="SECONDS",
    ),
    _server(
        "image_concurrency",
        "Images that a server is asked for at the same time; others wait, without "
        "using up their timeout.",
        default=8,
        metavar="N",
    ),
    _server(
        "image_rate",
        "Requests to an images server a minute, evenly spaced, repeated ones included.",
        metavar="PER_MINUTE",
        unset="no limit",
    ),
    _server(
        "image_api_key",
        "Key of the images server: SOCRATIC_IMAGE_API_KEY, or in Python.",
        decides=PRIVACY,
        unset="api_key where the language model has the same address or none, and "
        "OPENAI_API_KEY for OpenAI's own",
        secret=True,
    ),
    _brought(
        "generator_config",
        "Of a single file as generator: the pipeline that it was made from, a folder "
        "or a hub id.",
        unset="what the file looks like, from the hub",
        file=True,
    ),
    _brought(
        "lora",
        "LoRA weights for the generator, with their strength: a file, a folder, or a "
        "hub id with a file or without; several with commas.",
        metavar="FILE[:WEIGHT]",
        unset="nothing",
        file=True,
    ),
    _brought(
        "scheduler",
        "Of the generator: euler, ddim, dpm++ and so on, or a class of diffusers; with "
        "options after colons, such as dpm++:karras.",
        unset="the pipeline's own",
    ),
    _brought(
        "vae",
        "What the generator decodes with: a file, a folder, or a hub id.",
        unset="the pipeline's own",
        file=True,
    ),
    _drawn(
        "negative_prompt",
        "What not to draw, for generators that take a negative prompt; needs "
        "guidance above 1.",
        metavar="TEXT",
        unset="nothing",
        server=True,
        at_opening=True,
        in_every_key=False,
    ),
    _drawn("steps", "Denoising steps."),
    _drawn("guidance_scale", "Strength of the prompt.", metavar="X"),
    Field(
        "final_steps",
        "Denoising steps of the final generator.",
        group=Group.IMAGE,
        decides=SEARCH,
        metavar="N",
        unset="the recipe of its family, or else the pipeline's own",
    ),
    Field(
        "final_guidance_scale",
        "Strength of the prompt for the final generator.",
        group=Group.IMAGE,
        decides=SEARCH,
        metavar="X",
        unset="the recipe of its family, or else the pipeline's own",
    ),
    _drawn(
        "true_cfg_scale",
        "Strength of the prompt against a negative one, which is a blank where there "
        "is none: for Qwen-Image, and models whose own guidance is distilled.",
        metavar="X",
        at_opening=True,
        in_every_key=False,
    ),
    _drawn(
        "max_sequence_length",
        "Tokens of a prompt that are read at most, for generators that take it.",
        at_opening=True,
        in_every_key=False,
    ),
    _drawn(
        "width",
        "Of the image; a multiple of 8, and of what the model draws in (16 for most).",
        metavar="PIXELS",
        unset="the model's own",
        server=True,
    ),
    _drawn(
        "height",
        "Of the image; a multiple of 8, and of what the model draws in (16 for most).",
        metavar="PIXELS",
        unset="the model's own",
        server=True,
    ),
    Field(
        "reader",
        "Who reads text on images for the checklist: a hub id or a folder of an OCR or "
        "another image-text-to-text model.",
        group=Group.CAPTIONER,
        decides=SEARCH,
        unset="the captioner",
    ),
    _seen(
        "captioner_options",
        "What the captioner's chat template or its processor is told besides: "
        "enable_thinking=true,do_image_splitting=false.",
        metavar="OPTIONS",
        unset="no deliberation, and what else is the model's own",
    ),
    _seen(
        "captioner_pixels",
        "Pixels of an image that the captioner looks at, at most, width times height: "
        "fewer are faster, and show less.",
        metavar="N",
        unset="the model's own",
    ),
    _seen(
        "captioner_quantization",
        "Of the captioner's weights, through bitsandbytes: 4bit, or 8bit.",
        metavar="BITS",
        unset="as dtype says",
    ),
    _seen(
        "captioner_offload",
        "What of the captioner is kept in main memory while it does not run: model "
        "(all of it), sequential (layers), or group (groups of layers).",
        decides=COST | PLACE,
        unset="nothing",
    ),
    _llm(
        "base_url",
        "Address of an OpenAI-compatible server of the language model.",
        decides=ANSWER | PRIVACY,
        in_every_key=True,
        metavar="URL",
        unset="the provider's own",
    ),
    _llm(
        "api_key",
        "Key of the language model: SOCRATIC_API_KEY, or in Python. It is no option, "
        "since options stand in the list of processes.",
        decides=PRIVACY,
        unset="the provider's own variable, such as OPENAI_API_KEY, for its own address",
        secret=True,
    ),
    _llm(
        "temperature",
        "Of the language model, from 0 to 2.",
        decides=ANSWER,
        in_every_key=True,
        metavar="X",
        unset="the model's own",
    ),
    _llm(
        "timeout",
        "What one request to the language model may take, from connecting to the last "
        "byte.",
        decides=PLACE,
        default=60.0,
        metavar="SECONDS",
    ),
    _llm(
        "llm_concurrency",
        "Requests to the language model at the same time; others wait, without "
        "using up their timeout.",
        decides=PLACE,
        metavar="N",
        unset="64; 4 at a base URL that is not the provider's own, 1 where a chat "
        "model object has no async call of its own",
    ),
    _llm(
        "llm_rate",
        "Requests to the language model a minute, evenly spaced, repeated ones "
        "included.",
        decides=PLACE,
        metavar="PER_MINUTE",
        unset="no limit",
    ),
    _llm(
        "llm_failure",
        "What becomes of a prompt whose language model fails for good once there is an "
        "image: return (the best so far, stop reason llm_failed) or raise (an error).",
        decides=PLACE,
        default="return",
        metavar="WHAT",
    ),
    _llm(
        "llm_max_tokens",
        "Tokens of one answer of the language model at most, deliberation included.",
        decides=ANSWER,
        metavar="N",
        unset="what its form takes and 2048 more; nothing is said to OpenAI's own API",
    ),
    _llm(
        "llm_context",
        "Tokens that a request to the language model and its answer may have together; "
        "the worst attempts are left out of longer ones, then examples.",
        decides=ANSWER,
        metavar="N",
        unset="what the server says when one is too long",
    ),
    _hardware(
        "device",
        "Where image models run: cuda:0, mps, cpu; several, with commas, share the "
        "work.",
        decides=PLACE,
        of=IMAGE_MODELS,
        unset="the best that is there",
    ),
    _hardware(
        "device_memory",
        "GB of weights that a device holds at a time; models that do not fit together "
        "take turns there.",
        decides=PLACE,
        of=IMAGE_MODELS,
        metavar="GB",
        unset="most of what a graphics card has free, and no limit elsewhere",
    ),
    _hardware(
        "dtype",
        "Number format of the weights: float32, float16, or bfloat16.",
        decides=IMAGE | CAPTION | SCORE | COST,
        of=IMAGE_MODELS,
        unset="what suits the device",
        in_every_key=True,
    ),
    _hardware(
        "offload",
        "What of the generator is kept in main memory while it does not run: model "
        "(whole models), sequential (layers), or group (groups of layers).",
        decides=COST | PLACE,
        of=GENERATOR,
        unset="nothing",
    ),
    _hardware(
        "variant",
        "Which of several files of the generator's weights, such as fp16.",
        decides=IMAGE | COST,
        of=GENERATOR,
        unset="the plain ones, or of a folder the only ones",
        at_opening=True,
    ),
    _hardware(
        "quantization",
        "Of the generator's weights: 4bit or 8bit through bitsandbytes, or fp8 (kept "
        "as 8-bit floats, computed with as dtype says).",
        decides=IMAGE | COST,
        of=GENERATOR,
        metavar="BITS",
        unset="as dtype says",
        in_every_key=True,
    ),
    _hardware(
        "batching",
        "What shares a batch: request (whole images), or step (calls of the "
        "denoiser, so that an image may join others; experimental).",
        decides=IMAGE,
        of=GENERATOR,
        default="request",
        in_every_key=True,
    ),
    _speed(
        "channels_last",
        "Keep the generator's weights as tensor cores read them.",
        decides=ROUNDING | COST,
        default=False,
    ),
    _speed(
        "compile",
        "Compile the denoiser: regional (the blocks that it repeats), or full.",
        decides=IMAGE | COST,
        unset="run as it is",
        in_every_key=True,
    ),
    _speed(
        "vae_batch",
        "Images that are decoded at once.",
        decides=ROUNDING | COST,
        metavar="N",
        unset="the whole batch",
    ),
    _hardware(
        "workers",
        "Where image models run: process (here, in processes of their own), ray, or "
        "ray://HOST:PORT; in Python also ProcessWorkers or RayWorkers.",
        decides=PLACE,
        of=IMAGE_MODELS,
        metavar="WHERE",
        unset="in this process",
    ),
    _hardware(
        "strict",
        "Whatever else runs, an image is the same to the last bit: all calls have one "
        "size, or one item where a device needs it; a lone one takes longer.",
        decides=ROUNDING,
        of=IMAGE_MODELS,
        default=False,
    ),
    _hardware(
        "in_flight",
        "Prompts refined at the same time, sharing the models' batches.",
        decides=PLACE,
        metavar="N",
        unset="8, or up to 64 where so many are measured to keep the device busy",
    ),
    _hardware(
        "patience",
        "After which a call of an image model is taken to be stuck; none: never.",
        decides=PLACE,
        default=3600.0,
        metavar="SECONDS",
    ),
)
"""Image, language model and hardware, in the order of help and docs."""
