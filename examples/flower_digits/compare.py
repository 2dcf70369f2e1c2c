"""Run the app by FedAvg, by FedBN and each party alone, with three seeds each; print a table and draw the curves."""

import json
import statistics
import subprocess

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

WAYS = {"fedavg": "FedAvg", "fedbn": "FedBN", "local": "each alone"}
SEEDS = range(3)
PARTIES = "num-supernodes=5 client-resources-num-cpus=1"


def run(way, seed):
    """The accuracy after every round, a mean over the parties."""
    command = ["flwr", "run", ".", "--stream", "--run-config", f'way="{way}" seed={seed}']
    done = subprocess.run([*command, "--federation-config", PARTIES], capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))["accuracy"]


curves = {way: [run(way, seed) for seed in SEEDS] for way in WAYS}

print("| | accuracy after the last round | seed by seed |")
print("|---|---|---|")
for way, title in WAYS.items():
    last = [100 * curve[-1] for curve in curves[way]]
    seeds = ", ".join(f"{value:.1f}" for value in last)
    print(f"| {title} | {statistics.mean(last):.1f} ± {statistics.stdev(last):.1f} % | {seeds} |")

plt.figure(figsize=(6, 3.6))
for way, title in WAYS.items():
    rounds = range(1, len(curves[way][0]) + 1)
    at = [[100 * value for value in values] for values in zip(*curves[way], strict=True)]
    plt.plot(rounds, [statistics.mean(values) for values in at], label=title)
    plt.fill_between(rounds, [min(values) for values in at], [max(values) for values in at], alpha=0.2)
plt.xlabel("round")
plt.ylabel("accuracy, mean of five parties, %")
plt.ylim(0, 100)
plt.legend()
plt.tight_layout()
plt.savefig("curves.svg", metadata={"Date": None})
