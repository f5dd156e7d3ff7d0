"""From a picture of any kind to the 48x48 gray face that the network takes, and where pictures come from."""
