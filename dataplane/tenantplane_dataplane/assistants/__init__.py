"""Assistants: a LangGraph graph that retrieves from one tenant's indices, packs, answers and cites.

Importing this package switches LangChain's and LangGraph's tracing off for the process, whatever the environment says:
a variable left in a pod's environment must not send tenants' questions to a third party.
"""

import os

for _variable in ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"):
    os.environ[_variable] = "false"
