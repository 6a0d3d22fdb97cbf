"""What `sarwater benchmark` is made of: statistics, measurements, the state of the device, and the report."""
