// Runs the camera that the npm package onvif tests itself with, as it is: recorded replies, WS-Discovery at port 3702.
require("coffeescript/register");
require("onvif/test/serverMockup.coffee");
