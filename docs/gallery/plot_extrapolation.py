"""
A subConvLSTM extrapolates a moving digit
=========================================

After six frames, the network receives no further input and continues the film from memory. It was trained for a few
seconds only. It carries the digit on, and its prediction blurs and fades from frame to frame, because the squared error
favours the mean over the positions that the network cannot tell apart. The error beats that of copying the last frame.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import models, plots, predict, stimuli
from pcsim.analysis import frames as scoring
from pcsim.training import Training
from pcsim.training.frames import Goal, train_to_predict

# %%
# An encoder of six frames, whose final state a forecaster of four frames takes over.

torch.manual_seed(0)
digits = stimuli.MovingDigits(digits=1, size=24, side=14, speed=(1.0, 2.0))
net = models.subconvlstm((24,), kernel=3, input_frames=6, output_frames=4, image=(1, 24, 24))
clips = digits.draw(seed=0, first=0, count=2_000, length=10).frames
settings = Training(updates=300, batch=16, learning_rate=0.01)
train_to_predict(net, lambda number: clips[number], len(clips), settings, Goal(loss="squared"))

# %%

test = torch.from_numpy(digits.draw(seed=1, first=0, count=100, length=10).frames)
forecast = predict(net, test, closed_loop_from=6)
scored = scoring.score(forecast.predictions, test, closed_loop_from=6)
for ahead in range(1, 5):
    print(f"{ahead} ahead: {scored.at(ahead):.4f}, copying the last frame {scored.at(ahead, 'copy last frame'):.4f}")

# %%

figure = plots.forecast(test[0, 2:] / 255, {"subConvLSTM": forecast.predictions[0, 2:]}, closed_loop_from=4)
figure.set_size_inches(7.6, 3.0)
plt.show()
