"""The chassis that every Cairn service stands on: a service's `__main__` imports it before anything of gRPC's."""

import os

# gRPC reads this when it is imported. Its handlers of fork() run in every process that is started (an export, a refit, a
# training, a trial of a model) and crash it before it has begun: of a busy service's, 2 % ended with SIGSEGV. Nothing here
# forks and goes on.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
