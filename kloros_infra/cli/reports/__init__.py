"""What `validate` found, in the forms that programs read: each a function from a report to text."""
