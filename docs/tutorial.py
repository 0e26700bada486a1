# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tutorial
#
# Show a network one picture of each of five letters that it has never seen, and it names others of them. This
# notebook meta-trains such a network for a few hundred updates, once with MAML and once with MAML++. Then it
# looks inside: what the inner loop does step by step, what it changes, and what it has learned to change. At the
# end the network is exported and used without this package. All of it takes under two minutes on two cores, and
# no data.

# %%
from tf_mamlpp.runtime import configure

configure()  # first: a quiet log, and on a CPU the faster thread layout

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.training.pictures import rates_heatmap, task_picture

tf.get_logger().setLevel("ERROR")
plt.rcParams.update({"figure.dpi": 80, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Tasks
#
# The data are *glyphs*: letters of many writing systems, drawn from the fonts that come with matplotlib. There
# are no fixed classes. Each **task** draws five letters, calls them 0 to 4, and has one labelled picture of each,
# the **support set**, and others to name, the **query set**. The writing systems of the test tasks are not those
# of training.


# %%
def tasks(split, size=4, count=None, query_shot=3):
    return mp.episodes("glyphs", split=split, tasks=size, count=count, way=5, shot=1, query_shot=query_shot)


meta_batch = next(iter(tasks("train")))  # four tasks
{name: values.shape for name, values in meta_batch.items()}


# %% [markdown]
# Three of them: a row for each class, with its support picture on the left and its query pictures in frames.


# %%
def task_of(meta_batch, number):
    return {name: values[number].numpy() for name, values in meta_batch.items()}


figure, axes = plt.subplots(1, 3, figsize=(10, 2.1), layout="constrained")
for number, panel in enumerate(axes):
    task = task_of(meta_batch, number)
    panel.imshow(task_picture(*task.values(), predicted=task["query_labels"]))
    panel.set_title(f"task {number}")
    panel.axis("off")
plt.show()

# %% [markdown]
# ## Meta-train, with MAML and with MAML++
#
# The **inner loop** adapts the network to one task by a few gradient steps on the support set. The **outer loop**
# moves the weights from which the inner loop starts, so that it ends well: that is MAML. MAML++ makes the same
# more stable and quicker by six changes; `presets` has them all. The model is any Keras model, here the four
# convolutions of the paper, narrow.


# %%
def meta_train(method, **settings):
    keras.utils.set_random_seed(0)
    model = mp.conv4((28, 28, 1), way=5, filters=16)
    learner = mp.MetaLearner(model, way=5, inner_steps=5, inner_rate=0.1, **mp.presets[method] | settings)
    learner.compile(keras.optimizers.Adam(2e-3))
    history = learner.fit(tasks("train"), epochs=4, steps_per_epoch=50, verbose=0)
    return learner, history.history["accuracy"]


maml, maml_history = meta_train("maml")

# %%
# Here all epochs are alike: second-order gradients, and losses after every inner step.
mamlpp, mamlpp_history = meta_train("maml++", multi_step_loss_epochs=8, second_order_from_epoch=0)

# %% [markdown]
# ## MAML beside MAML++
#
# Test tasks, which neither has met. On the right is the accuracy after each step of the inner loop: before it the
# network can only guess, since it cannot know which of the five letters is called 0.

# %%
learners = {"MAML": maml, "MAML++": mamlpp}
test_tasks = tasks("test", size=20, count=5, query_shot=10)
found = {name: mp.evaluate(learner, test_tasks) for name, learner in learners.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for name, history in {"MAML": maml_history, "MAML++": mamlpp_history}.items():
    left.plot(range(1, 5), history, "o-", label=name)
    right.plot(found[name].per_inner_step, "o-", label=f"{name}: {found[name].value:.0%}")
left.set(xlabel="epoch", ylabel="accuracy on training tasks", xticks=range(1, 5))
right.set(xlabel="inner steps", ylabel="accuracy on 100 test tasks", ylim=(0, 1))
right.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The inner loop, step by step
#
# One test task, neither an easy nor a hard one. Each square is a table of answers after so many inner steps: a
# row for each of five query pictures, a column for each support picture, darker for a larger probability. When
# the task is learned, the diagonal is dark.

# %%
meta_batch = next(iter(test_tasks))
number = np.argsort(found["MAML++"].per_task[:20, -1])[12]  # of the twenty of this meta-batch
task = task_of(meta_batch, number)


def answers_after_each_step(learner):
    """Probabilities [steps + 1, query pictures, classes] for the first query picture of each class."""
    outputs = tf.function(learner.curves)({name: values[None] for name, values in task.items()})[0]
    return tf.nn.softmax(outputs[:, ::10]).numpy()


def letters(panel, images, horizontal):
    panel.imshow(np.concatenate(list(np.squeeze(images)), axis=int(horizontal)), cmap="gray_r", aspect="auto")
    panel.axis("off")


grid = {"height_ratios": (1, 5, 5), "width_ratios": (1, *[5] * 6)}
figure, axes = plt.subplots(3, 7, figsize=(10, 3.9), layout="constrained", **grid)
axes[0, 0].axis("off")
for step in range(6):
    letters(axes[0, step + 1], task["support_images"], horizontal=True)
    axes[0, step + 1].set_title(f"step {step}")
for row, (name, learner) in zip(axes[1:], learners.items(), strict=True):
    letters(row[0], task["query_images"][::10], horizontal=False)
    for panel, table in zip(row[1:], answers_after_each_step(learner), strict=True):
        panel.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.set(xticks=[], yticks=[])
    row[0].set_title(name)
plt.show()

# %% [markdown]
# ## What the inner loop changes
#
# How far the weights of each layer move on the way to a task, relative to their size, as a mean over twenty test
# tasks. The two methods have learned to adapt different layers: nobody said which.


# %%
def movement(learner, meta_batch):
    """For each kernel how far it moves, in each task: |after - before| / |before|."""
    moved = []
    for images, labels in zip(meta_batch["support_images"], meta_batch["support_labels"], strict=True):
        adapted = learner.adapt(images, labels)
        pairs = zip(learner.model.trainable_variables, adapted.weights, strict=True)
        moved.append({v.path: np.linalg.norm(w - v) / np.linalg.norm(v) for v, w in pairs if "kernel" in v.path})
    return {path: np.mean([task[path] for task in moved]) for path in moved[0]}


figure, panel = plt.subplots(figsize=(6, 2.6), layout="constrained")
for shift, (name, learner) in zip((-0.2, 0.2), learners.items(), strict=True):
    moved = movement(learner, meta_batch)
    panel.bar(np.arange(len(moved)) + shift, moved.values(), 0.4, label=name)
panel.set(xticks=range(len(moved)), xticklabels=[path.split("/")[-2] for path in moved], ylabel="relative change")
panel.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Learned rates
#
# MAML's inner loop has one rate, 0.1. MAML++ learns one for each tensor and each step: which layers should move,
# and when. A hatched rate is negative: that step climbs.

# %%
rates = dict(zip(mamlpp.adapted_paths, mamlpp.inner_rates.means().numpy(), strict=True))
rates_heatmap({path.removeprefix("conv4/"): row for path, row in rates.items() if "kernel" in path}, "MAML++")

# %% [markdown]
# ## Features before and after adaptation
#
# What the layer before the last makes of the 50 query pictures of that task, in the two directions in which they
# differ most; a colour is a class, and stars are the support pictures. The inner loop sees the stars alone, and
# drives them apart; where it is well learned, the others follow. `adapted_model` is the adapted network as a
# Keras model of its own.

# %%
images = np.concatenate([task["support_images"], task["query_images"]])
labels = np.concatenate([task["support_labels"], task["query_labels"]])


def features(learner, inner_steps):
    adapted = learner.adapt(task["support_images"], task["support_labels"], inner_steps=inner_steps)
    model = learner.adapted_model(adapted)
    return keras.Model(model.inputs[0], model.layers[-1].input)(images).numpy()


def in_the_plane(points):
    """The first two principal components."""
    centred = points - points.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


def between_classes(points):
    """The share of the variance that lies between classes: 1 if all pictures of a class are alike."""
    means = np.stack([points[labels == label].mean(0) for label in range(5)])[labels]
    return means.var(0).sum() / points.var(0).sum()


figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
cases = [(name, steps) for name in learners for steps in (0, 5)]
for panel, (name, steps) in zip(axes, cases, strict=True):
    points = features(learners[name], steps)
    x, y = in_the_plane(points).T
    panel.scatter(x[5:], y[5:], c=labels[5:], cmap="tab10", vmax=9, s=18)
    panel.scatter(x[:5], y[:5], c=labels[:5], cmap="tab10", vmax=9, s=130, marker="*", edgecolors="black")
    panel.set(xticks=[], yticks=[])
    panel.set_title(f"{name}, {steps} steps\n{between_classes(points):.0%} between classes")
plt.show()

# %% [markdown]
# ## Adapt, and ask
#
# `adapt` learns a task from its support set, `predict_adapted` answers. A green frame is a right answer; a red
# one has beside it the letter that it was taken for.

# %%
adapted = mamlpp.adapt(task["support_images"], task["support_labels"])
predicted = mamlpp.predict_adapted(adapted, task["query_images"]).numpy().argmax(1)
plt.figure(figsize=(9, 2.4), layout="constrained")
plt.imshow(task_picture(*task.values(), predicted=predicted))
plt.title(f"{np.mean(predicted == task['query_labels']):.0%} of the query pictures are named right")
plt.axis("off")
plt.show()

# %% [markdown]
# ## Export, and use it without this package
#
# `export` writes a SavedModel with the inner loop inside. Another process loads it, which imports neither this
# package nor Keras, and gives the same answers.

# %%
folder = Path(tempfile.mkdtemp())
mamlpp.export(folder / "letters")
np.savez(folder / "task.npz", **task)

program = """
import sys
import numpy as np
import tensorflow as tf

model, task = tf.saved_model.load(sys.argv[1]), np.load(sys.argv[2])
state = model.adapt(task["support_images"], task["support_labels"])["state"]
print(*model.predict(state, task["query_images"])["probabilities"].numpy().argmax(1))
assert "tf_mamlpp" not in sys.modules
"""
command = [sys.executable, "-c", program, folder / "letters", folder / "task.npz"]
answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
print(answer)
assert answer.split() == [str(label) for label in predicted]

# %% [markdown]
# ## Where to go from here
#
# - A model that was trained for longer comes with the package: `mp.pretrained("omniglot")`, or without any Python
#   `tf-mamlpp adapt --model=omniglot`.
# - The same as a run with checkpoints, a record and results: `tf-mamlpp train --config=quickstart`
#   ([first run](../README.md#first-run)).
# - Your own model and data: [your_model.md](your_model.md). Exported models: [deploy.md](deploy.md). What was
#   reached on the paper's data: [results.md](results.md).
