"""The options by which a command finds the cluster; apart from `kube`, whose client takes long to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KubeconfigOption = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Kubeconfig file; KUBECONFIG or ~/.kube/config when unset.", show_default=False),
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig; the current one when unset.")
]
SystemNamespaceOption = Annotated[
    str, typer.Option("--system-namespace", help="Namespace of operator and data plane: the chart's release namespace.")
]
