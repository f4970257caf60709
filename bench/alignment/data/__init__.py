"""Motion with captions, from any source, and captions as embeddings.

A source is a sequence of `Clip`s of one split: `humanml3d.load` (HumanML3D and KIT-ML folders), `bvh.load` (folders of
BVH files), `arrays.load` (joints.npz and captions.jsonl) and `procedural.generate` (the embedded world, which needs no
files). `Clips.parts` and `crop` apply the published rules on length. `text` turns captions into embeddings.
"""

from bench.alignment.data.clip import Caption, Clip, Clips, DataError, crop, long_enough

__all__ = ["Caption", "Clip", "Clips", "DataError", "crop", "long_enough"]
