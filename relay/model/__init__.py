"""Values that travel, errors, units: leaves that know no room."""
