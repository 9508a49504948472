#!/bin/bash
# `trireme ckpt reshard`, `export` and `import`: bit for bit, and seen from outside: what is exported
# is read by hand and held against the tensors that h5py sees; what is imported is written by hand.
. "$(dirname "$0")/lib.sh"
trireme=$TRIREME_BIN/trireme
python=/usr/bin/python3
"$python" -c 'import h5py, numpy' 2>/dev/null || { echo "skipped: $python has no h5py"; exit 77; }
make_text

# safe.py in a scratch directory: safetensors as a dict of numpy arrays (uint16 for BF16), by hand.
cat >"$scratch/safe.py" <<'PYTHON'
import json, struct, sys
import numpy
TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}

def read(path):
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    assert length % 8 == 0 and data[8:9] == b"{", length
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__")
    assert metadata == {"format": "pt"}, metadata
    end, tensors = 0, {}
    for name, t in header.items():
        assert list(t) == ["dtype", "shape", "data_offsets"] and t["data_offsets"][0] == end, t
        end = t["data_offsets"][1]
        raw = data[8 + length + t["data_offsets"][0]:8 + length + end]
        tensors[name] = numpy.frombuffer(raw, TYPES[t["dtype"]]).reshape(t["shape"])
    assert 8 + length + end == len(data)
    return tensors

def write(path, tensors, types={}):
    header, data = {}, b""
    for name, t in tensors.items():
        dtype = types.get(name) or {"f": "F%d" % (8 * t.itemsize), "u": "U8"}[t.dtype.kind]
        raw = t.tobytes()
        header[name] = {"dtype": dtype, "shape": list(t.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)

def bf16(t):  # truncated: any 16 bits will do
    return (t.view("<u4") >> 16).astype("<u2")

def single(t):
    return (t.astype("<u4") << 16).view("<f4")
PYTHON
by_hand() { (cd "$scratch" && "$python" - "$@"); }

must_train whole 2 --train-iters 4 --lr-decay-iters 20
step=$(final whole)
for shards in 1 3 5; do
    "$trireme" ckpt reshard "$step" -o "$scratch/to$shards" --shards "$shards" >/dev/null
    [ "$(ls "$scratch/to$shards"/step-*/shard-* | wc -l)" = "$shards" ] || fail "not $shards shards"
    "$trireme" ckpt diff "$step" "$scratch/to$shards" | grep -q '^identical' || fail "$shards shards differ"
    "$trireme" ckpt verify "$scratch/to$shards" >/dev/null || fail "$shards shards are not sound"
done
pass "resharded to 1, 3 and 5 files: identical, moments and counters too"
must_train on 1 --load "$scratch/to5" --train-iters 8 --lr-decay-iters 20
must_train straight 1 --load "$step" --train-iters 8 --lr-decay-iters 20
same on straight "training goes on from 5 shards as from the original"

"$trireme" ckpt export "$step" -o "$scratch/hf" >/dev/null
by_hand "$step" <<'PYTHON' || fail "the exported directory is not what h5py sees"
import json, sys
import h5py, numpy, safe
ours = h5py.File(sys.argv[1] + "/checkpoint.h5")["parameter"]
theirs = safe.read("hf/model.safetensors")
expected = {"wte.weight": ours["embedding.token.weight"][()],
            "wpe.weight": ours["embedding.position.weight"][()],
            "ln_f.weight": ours["final_norm.weight"][()], "ln_f.bias": ours["final_norm.bias"][()]}
for i in range(2):
    own = lambda name: ours[f"layers.{i}.{name}"][()]
    for a, b in (("ln_1", "norm1"), ("ln_2", "norm2")):
        expected[f"h.{i}.{a}.weight"], expected[f"h.{i}.{a}.bias"] = own(b + ".weight"), own(b + ".bias")
    for kind in ("weight", "bias"):
        qkv = numpy.concatenate([own(f"attention.{p}.{kind}") for p in "qkv"])
        parts = (("attn.c_attn", qkv), ("attn.c_proj", own("attention.projection." + kind)),
                 ("mlp.c_fc", own("mlp.up." + kind)), ("mlp.c_proj", own("mlp.down." + kind)))
        for name, value in parts:
            expected[f"h.{i}.{name}.{kind}"] = value.T
assert set(theirs) == {"transformer." + name for name in expected}, set(theirs) ^ set(expected)
for name, value in expected.items():
    their = theirs["transformer." + name]
    assert their.shape == value.shape, (name, their.shape, value.shape)
    assert their.tobytes() == numpy.ascontiguousarray(value).tobytes(), name
assert theirs["transformer.h.1.attn.c_attn.weight"].shape == (48, 144)
config = json.load(open("hf/config.json"))
assert config["architectures"] == ["GPT2LMHeadModel"] and config["model_type"] == "gpt2"
assert [config[k] for k in ("vocab_size", "n_positions", "n_ctx", "n_embd", "n_layer", "n_head", "n_inner",
        "layer_norm_epsilon", "activation_function", "tie_word_embeddings")] == [
        251, 20, 20, 48, 2, 4, 192, 1e-05, "gelu_new", True], config
PYTHON
pass "exported: Hugging Face's names and layouts, every bit as h5py sees the checkpoint"

# import NAME: $scratch/NAME is imported, and exported again as $scratch/NAME.out.
import() {
    "$trireme" ckpt import "$scratch/$1" -o "$scratch/$1.in" --shards "${2:-1}" >"$scratch/$1.said" ||
        fail "$1 was not imported"
    "$trireme" ckpt verify "$scratch/$1.in" >/dev/null || fail "$1: the import is not sound"
    "$trireme" ckpt export "$scratch/$1.in" -o "$scratch/$1.out" >/dev/null || fail "$1: not exported again"
}
unchanged() { cmp -s "$scratch/hf/model.safetensors" "$scratch/$1.out/model.safetensors" || fail "$1: $2"; }

import hf 3
unchanged hf "export, import, export is not the same file"
cmp -s "$scratch/hf/config.json" "$scratch/hf.out/config.json" || fail "config.json changed on the way"
"$trireme" ckpt diff "$step" "$scratch/hf.in" >"$scratch/diff" || true
grep -Eqv '^(step|next_sample|data_hash): |^exp_avg(_sq)? is in the first alone$' "$scratch/diff" &&
    { cat "$scratch/diff"; fail "the parameters differ"; }
pass "export and back, in 3 shards: parameters bit for bit, and nothing but parameters"
grep -q '^  vocab_size: 251$' "$scratch/hf.said" || fail "the sizes for a configuration are not told"

by_hand <<'PYTHON'
import os, shutil, struct
import numpy, safe
hf = safe.read("hf/model.safetensors")
short = {name.split(".", 1)[1]: t for name, t in hf.items()}
def directory(name, tensors, types={}):
    os.mkdir(name)
    shutil.copy("hf/config.json", name)
    safe.write(name + "/model.safetensors", tensors, types)
mask = numpy.tril(numpy.ones((1, 1, 20, 20), "f4"))
hub = {"h.0.attn.bias": mask, "lm_head.weight": short["wte.weight"], **dict(reversed(short.items()))}
directory("hub", {**hub, "h.1.attn.masked_bias": numpy.array(-1e4, "f4")})
directory("half", {n: t.astype("<f2") for n, t in short.items()})
directory("half_wanted", {n: t.astype("<f2").astype("<f4") for n, t in short.items()})
directory("bfloat", {n: safe.bf16(t) for n, t in short.items()}, {n: "BF16" for n in short})
directory("bfloat_wanted", {n: safe.single(safe.bf16(t)) for n, t in short.items()})
directory("untied", {**short, "lm_head.weight": short["wte.weight"] + 1})
directory("wider", {**short, "ln_f.bias": numpy.zeros(49, "f4")})
directory("more", {**short, "h.2.ln_1.bias": short["h.1.ln_1.bias"]})
directory("less", {n: t for n, t in short.items() if n != "h.1.mlp.c_fc.bias"})
def llmc(path, version, convert):
    layers = lambda name, turn: b"".join(convert(
        numpy.ascontiguousarray(short[f"h.{i}.{name}"].T if turn else short[f"h.{i}.{name}"])) for i in range(2))
    with open(path, "wb") as out:
        head = [20240326, version, 20, 251, 2, 4, 48, 256]
        out.write(struct.pack("<256i", *head, *[0] * 248))
        out.write(convert(numpy.vstack([short["wte.weight"], numpy.zeros((5, 48), "f4")])))
        out.write(convert(short["wpe.weight"]))
        for name, turn in (("ln_1.weight", 0), ("ln_1.bias", 0), ("attn.c_attn.weight", 1),
                ("attn.c_attn.bias", 0), ("attn.c_proj.weight", 1), ("attn.c_proj.bias", 0), ("ln_2.weight", 0),
                ("ln_2.bias", 0), ("mlp.c_fc.weight", 1), ("mlp.c_fc.bias", 0), ("mlp.c_proj.weight", 1),
                ("mlp.c_proj.bias", 0)):
            out.write(layers(name, turn))
        out.write(convert(short["ln_f.weight"]) + convert(short["ln_f.bias"]))
llmc("llmc3.bin", 3, lambda t: t.tobytes())
llmc("llmc5.bin", 5, lambda t: safe.bf16(t).tobytes())
PYTHON
import hub
unchanged hub "names without prefix, masks and a copy of the head change it"
pass "names as on the hub: no prefix, masks, a head that equals the embedding"
import half && import half_wanted
cmp -s "$scratch/half.out/model.safetensors" "$scratch/half_wanted.out/model.safetensors" || fail "float16"
import bfloat 2 && import bfloat_wanted
cmp -s "$scratch/bfloat.out/model.safetensors" "$scratch/bfloat_wanted.out/model.safetensors" || fail "bfloat16"
pass "float16 and bfloat16 become the float32 of the same value"
import llmc3.bin 2
unchanged llmc3.bin "a llm.c model of version 3 is another model"
import llmc5.bin
cmp -s "$scratch/llmc5.bin.out/model.safetensors" "$scratch/bfloat.out/model.safetensors" || fail "llm.c version 5"
pass "llm.c models, float32 and bfloat16, with a padded vocabulary"

must_train tuned 1 --load "$scratch/hf.in" --train-iters 0
[ "$(validation tuned)" = "$(validation whole)" ] ||
    fail "validation $(validation whole) became $(validation tuned)"
must_train tuned1 1 --load "$scratch/llmc3.bin.in" --train-iters 4 --seed 8
must_train tuned2 2 --tp 1 --load "$scratch/hf.in" --train-iters 4 --seed 8
same tuned1 tuned2 "training starts from an imported model, with a seed of its own"
code=0
train narrow 1 --load "$scratch/hf.in" --train-iters 0 --hidden-size 64 || code=$?
[ "$code" = 78 ] && grep -q 'has hidden_size 48, and this run has 64' "$scratch/narrow.err" ||
    fail "another size: exit $code: $(cat "$scratch/narrow.err")"
pass "an imported model of other sizes is refused"
sampled() { "$trireme" sample "$1" --prompt the --tokens 40 --temperature 0; }
[ "$(sampled "$step")" = "$(sampled "$scratch/hf.in")" ] || fail "an imported model samples otherwise"
pass "an imported model is sampled as its original is"

# refused WORDS MODEL: exit 78, one sentence with the words, nothing left behind.
refused() {
    local code=0
    "$trireme" ckpt import "$scratch/$2" -o "$scratch/none" >"$scratch/said" 2>&1 || code=$?
    [ "$code" = 78 ] || fail "$2: exit $code: $(cat "$scratch/said")"
    [ "$(wc -l <"$scratch/said")" = 1 ] && grep -qF "$1" "$scratch/said" || fail "$2: $(cat "$scratch/said")"
    [ ! -e "$scratch/none" ] || fail "$2: something was left behind"
}
refused '"lm_head.weight" differs from "wte.weight"' untied
refused 'tensor "ln_f.bias" has the shape [49]; by config.json it has [48]' wider
refused 'it has a tensor "h.2.ln_1.bias", and a GPT-2 of its sizes has none' more
refused 'it has no tensor "h.1.mlp.c_fc.bias"' less
refused 'no llm.c model' text
cp -r "$scratch/hf" "$scratch/cut" && truncate -s -1 "$scratch/cut/model.safetensors"
refused 'lie outside' cut
pass "what is no GPT-2 of ours is refused in a sentence"
code=0
"$trireme" ckpt export "$step" -o "$scratch/hf" 2>"$scratch/said" || code=$?
[ "$code" = 78 ] && grep -q 'is there already' "$scratch/said" || fail "an export was written over"
pass "nothing is overwritten"
finish
