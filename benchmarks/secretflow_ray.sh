#!/usr/bin/env bash
# Install all of SecretFlow 1.13.0b0, Ray included, into a fresh virtual environment, bn-audit as a wheel beside it, and run
# what needs the real thing. usage: secretflow_ray.sh FOLDER [pytest arguments]. Needs Python 3.11, 3 GB and the network.
# `pip install secretflow` no longer resolves: some releases that it pins are gone, so its packages come one by one.
set -euo pipefail

unset PYTHONPATH  # so that the wheel is what is imported
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
venv=$folder/venv
torch=${TORCH:-torch==2.13.0}

if [ ! -e "$venv/.complete" ]; then
    rm -rf "$venv"
    "${PYTHON:-python3.11}" -m venv "$venv"
    "$venv/bin/pip" install -q "$torch" numpy==1.26.4
    "$venv/bin/pip" install -q --no-deps secretflow==1.13.0b0 secretflow-spec==1.1.0b0 secretflow-rayfed==0.2.1a2 \
        sdc-apis==0.1.0.dev240320 kuscia==0.0.3b0 secretflow-dataproxy==0.5.0.dev20250416 \
        secretflow_serving_lib==0.10.0.dev20250414 sf-sml==0.1.0.dev20250623 sf-heu==0.5.2b0 spu==0.9.4 \
        interconnection==0.2.0.dev0 dp-accounting==0.4.4
    "$venv/bin/pip" install -q "$torch" numpy==1.26.4 torchmetrics==1.6.1 pandas==1.5.3 pyarrow==14.0.2 \
        scikit-learn==1.5.2 networkx==2.8.8 "protobuf>=4,<5" "grpcio>=1.56.2" jax==0.6.2 jaxlib==0.6.2 s3fs==2024.2.0 \
        duckdb==1.0.0 sqlglot==25.5.1 multiprocess==0.70.18 cachetools cloudpickle termcolor sparse tqdm requests aiohttp \
        absl-py attrs ray==2.42.0
    # spu 0.9.4 lacks a name that SecretFlow 1.13 imports; the build that it pins has it.
    spu=$("$venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("spu").origin)')
    printf '\nfrom .libspu import logging  # noqa\n' >>"$spu"
    touch "$venv/.complete"
fi

# As a party would install it: nothing of the checkout is on the path of a worker.
rm -rf "$folder/wheel"
"$venv/bin/pip" wheel -q --no-deps --wheel-dir "$folder/wheel" "$root"
"$venv/bin/pip" install -q --force-reinstall --no-deps "$folder"/wheel/bn_audit-*.whl
"$venv/bin/pip" install -q "$torch" numpy==1.26.4 click libcst rich pathspec jinja2 pytest pytest-asyncio hypothesis jsonschema pyyaml
rm -rf "$folder/run"
mkdir "$folder/run"
cp -R "$root/tests" "$root/examples" "$root/pyproject.toml" "$folder/run"
cd "$folder/run"
run() {
    printf '\n$ %s\n' "$*"
    "$@"
}
"$venv/bin/python" -c 'import bn_audit, secretflow, ray, torch; print("bn_audit", bn_audit.__file__); print("secretflow", secretflow.__version__, "ray", ray.__version__, "torch", torch.__version__)' 2>/dev/null
run "$venv/bin/python" -m pytest -q -p no:cacheprovider -m secretflow tests/live/test_ray_simulation.py tests/live/test_installed.py::TestInstalled "$@"
cd examples/drop_in
for program in before after; do
    run "$venv/bin/python" "$program.py" 2>&1 | grep -E '^(\$|alice|bob|[A-Za-z.]*Error)' || true
done
