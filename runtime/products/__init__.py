"""What a scene becomes: mask, confidence, polygons, quicklook and catalogue entry, staged and then published."""
