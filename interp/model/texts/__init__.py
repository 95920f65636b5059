"""Read texts in the forms that users have them in, and ask a tokenizer for their ids."""
