"""Alignment bought by fine-tuning: motion data, the motion representation, the evaluator, metrics, fine-tuning runs."""
