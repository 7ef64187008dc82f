"""Rabiei et al.: ConvLSTM with attention, daily moisture at two depths from what SMAP sees."""

from soilkit.models.convlstm.daily_moisture import DEPTHS as DEPTHS
from soilkit.models.convlstm.daily_moisture import SURFACE_ESTIMATE as SURFACE_ESTIMATE
from soilkit.models.convlstm.daily_moisture import TrainedConvLSTM as TrainedConvLSTM
from soilkit.models.convlstm.daily_moisture import load as load
from soilkit.models.convlstm.daily_moisture import predictors as predictors
from soilkit.models.convlstm.daily_moisture import sources_of as sources_of
from soilkit.models.convlstm.daily_moisture import split_days as split_days
from soilkit.models.convlstm.daily_moisture import station_rows as station_rows
from soilkit.models.convlstm.daily_moisture import teachers_of as teachers_of
from soilkit.models.convlstm.daily_training import train as train
from soilkit.models.convlstm.daily_training import training_area as training_area
from soilkit.models.convlstm.gap_filter import RIVALS as RIVALS
from soilkit.models.convlstm.gap_filter import ContinuousFilter as ContinuousFilter
from soilkit.models.convlstm.gap_filter import train_filter as train_filter
from soilkit.models.convlstm.recurrent import ConvLSTM as ConvLSTM
from soilkit.models.convlstm.recurrent import TeacherLoss as TeacherLoss
