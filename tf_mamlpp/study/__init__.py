"""The paper's ablation: many runs, compared, with a report."""
