"""Which formats are read at all: what recorders, cameras and voice recorders make."""

from typing import Final

FORMATS: Final = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,apng,ape,asf,au,av1,avi,bmp_pipe,caf,dhav,dss,dts,eac3,flac,flv,g722,g726,g729,"
    "gif,h261,h263,h264,hevc,ivf,jpeg_pipe,jpegls_pipe,m4v,matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,"
    "mpegvideo,mulaw,mxf,ogg,png_pipe,rm,tiff_pipe,tta,w64,wav,webp_pipe,wv"
)
"""Names of FFmpeg's demuxers; formats that name other files to read are not among them."""
