"""The algorithm: MAML and MAML++ on any Keras model.

Which idea lives where ("How to train your MAML", arXiv 1810.09502, section 4, and MAML, arXiv 1703.03400):

| idea | module |
|---|---|
| MSL, the multi-step loss: `loss_weights`, one task's outer loss | `multi_step_loss` |
| DA, derivative-order annealing: `phase_of` | `schedules` |
| BNRS and BNWB, per-step batch-norm statistics and weights | `layers.per_step_batch_norm` |
| LSLR, learned rates for each tensor and step; Meta-SGD's for each weight | `learned_rates` |
| CA, cosine annealing of the outer rate: `cosine_rate` | `schedules` |
| every switch, and the methods `maml`, `maml++`, `fomaml`, `anil`, `boil`, `meta-sgd`, `protonet` | `settings` |
| the inner loop: gradient steps on the support set, first or second order | `inner_loop` |
| which weights it changes (ANIL, BOIL) | `adapted_weights` |
| heads that each task starts by itself, of any number of classes (UNICORN-MAML, Proto-MAML) | `heads` |
| the mean over orders of the classes: `label_permutations` | `label_permutations` |
| a Keras model as a pure function of fast weights and state | `functional_model` |
| the outer loop: meta-batch, meta-gradient | `outer_loop` |
| `compile`, `fit`, `predict`; data of tasks; metrics | `task_trainer`, `task_data`, `task_metrics` |
| what is made of outputs: their kind, the loss, the metrics | `reading` |
| the pieces assembled: `MetaLearner` | `meta_learner` |
| `adapt` and `predict_adapted` | `adaptation` |
| memory for time: inner steps computed again in the backward pass | `rematerialisation` |
| second derivatives that are exact: normalisation, pools, convolutions | `layers` |
| the check of a model's meta-gradient against finite differences | `gradient_check` |
| evaluation on fixed tasks, the ensemble, the 95 % interval | `evaluation` |
| pretraining: one classifier of all training classes, validated by the nearest class mean | `classifier` |
| an episode (a task), drawn from a bank of pictures | `data.episode_sampling` |
| a checkpoint: the latest update, and the best epochs | `training.checkpoints` |
| the export: a SavedModel that adapts and predicts | `deploy.saved_model` |
"""
