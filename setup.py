from pathlib import Path

from setuptools import find_packages, setup

# Has no wheels elsewhere.
LITERT = (
    "ai-edge-litert>=1.4; python_version < '3.14' and ("
    "(sys_platform == 'linux' and (platform_machine == 'x86_64' or platform_machine == 'aarch64')) or "
    "(sys_platform == 'darwin' and platform_machine == 'arm64'))"
)

setup(
    name="tf_mamlpp",
    version="0.1.0",
    description="MAML++ for TensorFlow 2 and Keras 3: meta-train, inspect and deploy few-shot learners",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    # A checkout has configs/ at its top; an installed package carries it.
    packages=[*find_packages(include=["tf_mamlpp", "tf_mamlpp.*"]), "tf_mamlpp.configs"],
    package_dir={"tf_mamlpp.configs": "configs"},
    entry_points={"console_scripts": ["tf-mamlpp = tf_mamlpp.commands.console:main"]},
    package_data={"tf_mamlpp": ["py.typed", "data/class_lists/*", "demo/parts/*", "pretrained/*/*"]},
    install_requires=[
        "absl-py>=2.0",
        # Later ones conflict with tensorflow-datasets on 3.10, and Python 3.10's own pip searches for hours.
        "etils<1.14; python_version < '3.11'",
        "importlib_resources>=6.0",  # tensorflow-datasets imports it without declaring it
        "keras>=3.8",
        "markdown>=3.4",  # a study's report as a page
        "matplotlib>=3.10",  # its fonts are the embedded data; figures
        "numpy>=1.26",
        "pillow>=10.1",
        "tensorboard>=2.19",
        "tensorflow>=2.19",
        "tensorflow-datasets>=4.9.7",
        "tqdm>=4.60",  # the progress of decoding
    ],
    extras_require={
        "demo": ["gradio>=6.17,<7"],
        "gpu": ["tensorflow[and-cuda]>=2.19; sys_platform == 'linux'"],
        "litert": [LITERT],
        "peers": ["higher>=0.2.1", "torch>=2"],  # docs/benchmark.md; learn2learn has to be built by hand
        "test": ["build>=1.2", "hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.5", LITERT],
        # The site (docs/site) and its notebook.  mkdocs-material is in its last major version.
        "docs": [
            "ipykernel>=6.29",
            "jupytext>=1.16",
            "mkdocs-material>=9.5,<10",
            "mkdocstrings[python]>=0.26",
            "nbconvert>=7.16",
        ],
        "dev": ["import-linter>=2.1", "mypy>=1.11", "playwright>=1.45", "ruff>=0.6"],
    },
)
