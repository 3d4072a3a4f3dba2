"""What components that speak with AWS share: the session, objects of S3, messages of SQS."""
