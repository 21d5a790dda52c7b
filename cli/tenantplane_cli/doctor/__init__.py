"""`tenantplane doctor`: whether an installation holds what it promises, and how to mend what does not."""
