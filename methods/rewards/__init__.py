"""Rewards: differentiable scores of a motion against its prompt, behind methods.interface.Reward."""
