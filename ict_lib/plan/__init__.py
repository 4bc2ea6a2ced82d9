"""What a run would take on this machine or another, before anything is trained: ``python -m ict_lib.plan``."""

from ict_lib.plan.estimate import Plan, plan_of

__all__ = ["Plan", "plan_of"]
