"""Motion with captions, from any source; what describes it, and what judges it. Knows nothing of models or benchmarks.

clip              a clip and a split of them, and the published rules on length
humanml3d, bvh, arrays    folders of motion as clips
captions, lines, npy      what such folders hold, read from files of any origin, within limits
plausible         whether motion is of people in metres, y up, at its rate
text              captions as embeddings
skeleton, representation  the 22-joint body; joints to features and back
metrics, retrieval, evaluator   the field's metrics, and the network that they are taken with
"""
